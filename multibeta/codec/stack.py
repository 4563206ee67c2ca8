"""A stack of bits, popped and pushed with probabilities, by constriction's ANS coder."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from multibeta.codec.streams import coder

__all__ = ["DAMAGED", "WORD", "Stack", "uniform", "yes"]

WORD = 32
"""The bits of a word of the stack."""

DAMAGED = "the code is damaged, or of another model, β, number of examples or inputs"
"""What is said of a stack that cannot be read."""


class Stack:
    """The coder, on top of as many words as are needed.

    A stack of ANS can be popped and pushed with any probabilities. What is popped before anything
    was pushed comes from the words below; those that were never reached are left out at the end.
    """

    def __init__(self, coder: Any, supply: Callable[[int], np.ndarray] | None = None) -> None:
        self._coder, self._supply = coder, supply
        self._given = self._untouched = 0

    @classmethod
    def supplied(cls, supply: Callable[[int], np.ndarray]) -> Stack:
        """Return an empty one.

        Args:
            supply: n → the first n words of what lies below, from above.
        """
        return cls(coder().stack.AnsCoder(), supply)

    @classmethod
    def read(cls, payload: bytes) -> Stack:
        """Return that of a code."""
        words = np.frombuffer(payload + bytes(-len(payload) % 4), "<u4").astype(np.uint32)
        if not len(words) or not words[-1]:
            raise ValueError(DAMAGED)
        return cls(coder().stack.AnsCoder(words))

    @property
    def words(self) -> np.ndarray:
        """What is on it, from below."""
        return self._coder.get_compressed()

    @property
    def free(self) -> int:
        """How many bits can be popped before new words are reached."""
        return self._coder.num_valid_bits() - WORD * self._untouched

    @property
    def is_spent(self) -> bool:
        """Whether it is lower than that of any code."""
        return self._coder.num_words() < 2

    def reserve(self, symbols: int) -> None:
        """Put words below, so that so many symbols, of at most 24 bits each, can be popped."""
        lacking = 2 + symbols - self._coder.num_words()
        if self._supply is None or lacking <= 0:
            return
        below = self._supply(self._given + lacking)[self._given :][::-1]
        self._coder = coder().stack.AnsCoder(np.concatenate([below, self.words]))
        self._given += lacking
        self._untouched += lacking

    def pop(self, model: Any, *parameters: Any) -> np.ndarray:
        """Return symbols."""
        found = self._coder.decode(model, *parameters)
        self._untouched = min(self._untouched, max(self._coder.num_words() - 2, 0))
        return found

    def push(self, symbols: np.ndarray, model: Any, *parameters: np.ndarray) -> None:
        """Put symbols on it, so that :meth:`pop` finds them in their order."""
        self._coder.encode_reverse(symbols, model, *parameters)

    def whiten(self, noise: np.ndarray) -> None:
        """Turn over bits at the top, as noise says; a second time undoes it.

        Args:
            noise: Numbers of 16 bits.
        """
        self.push(self.pop(uniform(2**16), len(noise)) ^ noise, uniform(2**16))

    def push_list(self, positions: np.ndarray) -> None:
        """Put ascending numbers below 2³⁶ on it, few of them."""
        self.push(np.zeros(1, np.int32), _rare())
        for position in positions[::-1]:
            self.push(np.array(divmod(int(position), 2**18), np.int32), uniform(2**18))
            self.push(np.ones(1, np.int32), _rare())

    def pop_list(self) -> np.ndarray:
        """Take them off."""
        found = []
        while self.pop(_rare(), 1)[0]:
            high, low = self.pop(uniform(2**18), 2)
            found.append((int(high) << 18) + int(low))
        return np.array(found, np.int64)

    def finished(self) -> tuple[np.ndarray, int]:
        """Return the words from below, and how many of them lay there at first."""
        return self.words[self._untouched :], self._given - self._untouched


@cache
def uniform(size: int) -> Any:
    """Return the model of numbers from 0 to size − 1, all equally probable."""
    return coder().model.Uniform(size)


@cache
def _rare() -> Any:
    return coder().model.Bernoulli(2.0**-6, perfect=False)


@cache
def yes() -> Any:
    """Return the model of a decision, of which each has a probability of its own."""
    return coder().model.Bernoulli(perfect=False)
