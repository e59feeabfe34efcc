"""A module of operators whose library is missing."""

import a_library_that_is_not_installed  # noqa: F401
