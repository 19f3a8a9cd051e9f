# SPDX-License-Identifier: Apache-2.0
"""Drives libaiolos from Python's ctypes: prints the answer to each request, which several threads ask at once.

    drive.py LIBRARY CONFIG THREADS REQUEST...

A process of its own, since libvirt's embedded driver serves a process for its whole life.
"""

import ctypes
import sys
import threading


def load(path):
    library = ctypes.CDLL(path)
    library.aiolos_version.restype = ctypes.c_char_p
    library.aiolos_open.restype = ctypes.c_void_p
    library.aiolos_open.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
    library.aiolos_request.restype = ctypes.c_void_p
    library.aiolos_request.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.aiolos_free.argtypes = [ctypes.c_void_p]
    library.aiolos_close.argtypes = [ctypes.c_void_p]
    return library


def take(library, pointer):
    text = ctypes.string_at(pointer).decode()
    library.aiolos_free(pointer)
    return text


def main():
    path, config, threads, requests = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    library = load(path)
    error = ctypes.c_void_p()
    agent = library.aiolos_open(config.encode(), ctypes.byref(error))
    if not agent:
        print(take(library, error))
        sys.exit(1)
    for request in requests:
        answers = []
        asking = [threading.Thread(target=lambda: answers.append(
            take(library, library.aiolos_request(agent, request.encode())))) for _ in range(threads)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        print("\n".join(answers))
    library.aiolos_close(agent)


main()
