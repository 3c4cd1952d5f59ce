"""What glibc's malloc has given out, for programs of their own."""

import ctypes

LIBC = ctypes.CDLL(None)


class Info(ctypes.Structure):
    """malloc.h's struct mallinfo2; `uordblks` and `hblkhd` are the bytes in use, from heaps and mapped."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def info():
    LIBC.mallinfo2.restype = Info
    return LIBC.mallinfo2()
