"""Codes of examples as bytes."""

__all__: list[str] = []
