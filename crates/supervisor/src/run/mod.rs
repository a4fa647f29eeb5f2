//! The running supervisor: one loop that owns all wards, executes what their lives ask for, and answers callers.
