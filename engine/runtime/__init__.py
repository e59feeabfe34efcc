"""Running a plan: lanes inside workers, workers under a supervisor."""
