"""The error that every room raises for bad input: what is wrong, where, and what to do."""


class HvoError(Exception):
    """Input that hvo cannot work with; the message is one line that says what, where, and what
    would be accepted.

    Commands print it on standard error and exit 2. Anything else that is raised is a defect of hvo.
    """
