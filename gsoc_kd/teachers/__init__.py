"""Stage 02: a teacher is a black box, (z, y) -> uint8 images."""

from .black_box import Teacher, black_box
from .load import EMBEDDED, GENERATORS, load_student, load_teacher
from .official import convert, read_official

__all__ = ["EMBEDDED", "GENERATORS", "Teacher", "black_box", "convert", "load_student", "load_teacher", "read_official"]
