"""The sub-commands of `relightgan` that need torch: command lines, and nothing else.

In: the words of a command line. Out: what a room made, printed or written, and an exit code.
May use every room.
"""
