"""Whatever may be raised, as an error in our grammar."""

from __future__ import annotations

import errno

import click

from hasten.errors import EnvironmentFault, HastenError, InputError, UsageError, did_you_mean, no_folder


def translated(fault: Exception) -> HastenError | None:
    """Click's faults and the machine's in our grammar; None for a fault of our own."""
    if isinstance(fault, HastenError):
        return fault
    if isinstance(fault, click.NoSuchOption):
        options = [name for p in fault.ctx.command.params for name in p.opts if name[:2] == "--"] if fault.ctx else []
        return UsageError(f"no option is called {fault.option_name!r}", help=did_you_mean(fault.option_name, options))
    if isinstance(fault, click.ClickException):
        path = fault.ctx.command_path if isinstance(fault, click.UsageError) and fault.ctx else "hasten"
        message = fault.format_message().rstrip(".")
        return UsageError(message[:1].lower() + message[1:], help=f"{path} --help")
    if isinstance(fault, ValueError) and str(fault) == "embedded null byte":
        return UsageError("a path holds a NUL character", help="check the paths")
    if isinstance(fault, MemoryError):
        return EnvironmentFault("out of memory", help="give less data, or a machine with more")
    if deleted := no_folder(fault):
        return deleted
    if isinstance(fault, FileNotFoundError | IsADirectoryError | PermissionError):
        why = fault.strerror or str(fault)
        return InputError(
            f"cannot open {str(fault.filename)!r}", cause=why.lower(), help="check the path and its permissions"
        )
    if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentFault("no space is left on the disk", cause=str(fault), help="free some space")
    if isinstance(fault, OSError) and fault.errno:
        where = f" at {str(fault.filename)!r}" if fault.filename else ""
        cause = f"{fault.strerror} ({errno.errorcode.get(fault.errno, fault.errno)})"
        return EnvironmentFault(
            f"the system refused an operation{where}", cause=cause, help="see to it, then run it again"
        )
    return None
