"""Reading options, and what to say when one is wrong: one line, with the nearest right one."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["check_yaml", "explain", "nearest", "read_yaml"]


_LEVELS = 40


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean …?)"`` if something known is like the word, else nothing."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[close[0]]}?)" if close else ""


def read_yaml(text: str) -> Any:
    """Read YAML in which 1:10 is a range, not the 70 that YAML 1.1 makes of it.

    Raises:
        yaml.YAMLError: If the text is not YAML.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    a_range = ("tag:yaml.org,2002:str", re.compile(r"^[-+.\w]+(:[-+.\w]+)+$"))
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    Loader.yaml_implicit_resolvers = {
        first: [a_range, *of] if first in "+-.0123456789" else of
        for first, of in resolvers.items()
    }
    return yaml.load(text, Loader)


def check_yaml(path: str | os.PathLike[str]) -> None:
    """Refuse a config that would unfold into more than it is: aliases, or levels without end.

    Raises:
        ValueError: If it is such, or no text.
    """
    import yaml

    level = 0
    try:
        with open(path, encoding="utf-8") as file:
            for event in yaml.parse(file, yaml.SafeLoader):
                if isinstance(event, yaml.AliasEvent):
                    raise ValueError(f"{path} has the alias *{event.anchor}; write it out")
                level += isinstance(event, yaml.CollectionStartEvent)
                level -= isinstance(event, yaml.CollectionEndEvent)
                if level > _LEVELS:
                    raise ValueError(f"{path} has more than {_LEVELS} levels; that is no config")
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        said = str(error).split("\n")[0]
        raise ValueError(f"{path} is not YAML ({said})") from None


def explain(message: str, parsers: Iterable[Any] = ()) -> str:
    """Turn jsonargparse's message into one line, with the nearest right option.

    Args:
        message: What jsonargparse said.
        parsers: The parsers whose options are known.
    """
    options = [
        option
        for parser in parsers
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--")
    ]
    if found := re.search(r"(?:[Uu]nrecognized arguments|ambiguous option): (\S+)", message):
        option = found[1].partition("=")[0]
        return f"no such option: {option}{_meant(option, options)}"
    if found := re.search(r"Option '(\S+)' is not accepted", message):
        return f"no such option: {found[1]}{_of_class(found[1], message)}"
    if found := re.search(r"does not accept option '([\w.]+)'", message):
        key = found[1]
        keys = [option.removeprefix("--") for option in options]
        return f"no such key: {key}{nearest(key, keys)}"
    # The innermost key is where the mistake is: the argument of a class, rather than the class.
    if keys := re.findall(r'Parser key "([\w.]+)":', message):
        return _of_value(
            ".".join(keys), message.rpartition(f'Parser key "{keys[-1]}":')[2].strip()
        )
    if "Does not validate against any" in message:
        return _of_value("", message)
    return message


_OF_CLASSES = {
    "batch_size": "data", "root": "data", "sigma": "model.likelihood",
    "width": "model.network", "depth": "model.network",
}  # fmt: skip
"""Arguments of classes that are chosen, which no parser knows beforehand; where they belong."""


def _meant(option: str, options: Iterable[str]) -> str:
    """Return ``" (did you mean …?)"``: an option that ends in the word, or one that is like it."""
    word = option.lstrip("-").lower()
    if word in _OF_CLASSES and option.startswith("--"):
        return f" (did you mean --{_OF_CLASSES[word]}.{word}?)"
    ends = [known for known in options if re.search(rf"[._-]{re.escape(word)}$", known)]
    if option.startswith("--") and ends:
        return f" (did you mean {min(ends, key=lambda known: (len(known), known))}?)"
    return nearest(option, options)


def _of_value(key: str, message: str) -> str:
    """Say what a value may be, from the types that it was checked against."""
    given = re.search(r"(?:Got value|Given value): (.*)", message)
    named = f"{key}={given[1].strip()}" if key and given else key
    if found := re.search(r"Problem with given class_path '(\S+)':\s*(.*)", message):
        return f"{key}={found[1]} cannot be used: {found[2]}"
    # What the class itself said, after "Errors:", is the reason; the rest repeats the types.
    reasons = re.findall(r"^\s*- (?!Expected|Does not validate)(.*)", message, re.MULTILINE)
    if reasons:
        return reasons[0] if "=" in reasons[0] else f"{named} cannot be used: {reasons[0]}"
    expected = re.findall(r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])", message)
    allowed = [a or b.replace("'", "") for a, b in expected if a != "NoneType"]
    if not allowed:
        return f"{named} is not allowed: {message}"
    return f"{named} is not allowed; allowed: {', '.join(dict.fromkeys(allowed))}"


def _of_class(option: str, message: str) -> str:
    """Return the nearest argument of the class that the message names."""
    found = re.search(r"class_path '([\w.]+)\.(\w+)'", message)
    if not found:
        return ""
    cls = getattr(importlib.import_module(found[1]), found[2])
    known = list(inspect.signature(cls).parameters)
    return nearest(option, known) or f"; {found[2]} has {', '.join(known) or 'none'}"
