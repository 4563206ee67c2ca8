"""The verbs of the command line beside training: what each measures, writes and prints."""

from multibeta.verbs.choosing import choose
from multibeta.verbs.compressing import compress, cut, decompress
from multibeta.verbs.converting import beta
from multibeta.verbs.handing import cite, encode, export, push, report
from multibeta.verbs.making import interpolate, reconstruct, sample, traverse
from multibeta.verbs.measuring import compare, curve, rate, score

__all__ = [
    "beta",
    "choose",
    "cite",
    "compare",
    "compress",
    "curve",
    "cut",
    "decompress",
    "encode",
    "export",
    "interpolate",
    "push",
    "rate",
    "reconstruct",
    "report",
    "sample",
    "score",
    "traverse",
]
