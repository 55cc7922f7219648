"""The store, the pipeline and the command line. Knows no stage: functions are reached by `_target_` only."""
