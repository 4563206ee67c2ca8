"""Completion of commands and options in shells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["SHELLS", "script"]

SHELLS = ("bash", "zsh", "fish")


def script(shell: str, options: Mapping[str, Sequence[str]], configs: Sequence[str]) -> str:
    """Return the text that a shell reads, once: ``source <(multibeta --print-completion bash)``.

    Args:
        shell: bash, zsh or fish.
        options: Command → its options, ``--betas`` and so on.
        configs: The names of the shipped configs, which follow ``--config``.

    Raises:
        ValueError: If there is no such shell.
    """
    if shell not in SHELLS:
        raise ValueError(f"--print-completion {shell} is unknown; allowed: {', '.join(SHELLS)}")
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](options, configs)


def _bash(options: Mapping[str, Sequence[str]], configs: Sequence[str]) -> str:
    cases = "\n".join(
        f'    {verb}) words="{" ".join(of)}" ;;' for verb, of in options.items()
    )  # fmt: skip
    return f"""\
_multibeta() {{
  local now="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(options)} --help --version" -- "$now"))
    return
  fi
  if [ "$before" = "--config" ] || [ "$before" = "-c" ]; then
    COMPREPLY=($(compgen -W "{" ".join(configs)}" -- "$now") $(compgen -f -- "$now"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [ "${{now:0:1}}" = "-" ]; then
    COMPREPLY=($(compgen -W "$words --help" -- "$now"))
  else
    COMPREPLY=($(compgen -f -- "$now"))
  fi
}}
complete -o filenames -F _multibeta multibeta
"""


def _zsh(options: Mapping[str, Sequence[str]], configs: Sequence[str]) -> str:
    return f"autoload -U +X bashcompinit && bashcompinit\n{_bash(options, configs)}"


def _fish(options: Mapping[str, Sequence[str]], configs: Sequence[str]) -> str:
    lines = [
        f"complete -c multibeta -f -n __fish_use_subcommand -a '{' '.join(options)}'",
        f"complete -c multibeta -l config -x -a '{' '.join(configs)}'",
    ]
    lines += [
        f"complete -c multibeta -n '__fish_seen_subcommand_from {verb}' -l '{option[2:]}'"
        for verb, of in options.items()
        for option in of
    ]
    return "\n".join(lines) + "\n"
