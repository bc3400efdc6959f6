"""What a method may do while a model trains: see `secateur.hook`, which lies below everything that offers hooks."""

from ..hook import Hook

__all__ = ["Hook"]
