//! When things happen to wards by the clock: cron expressions, conditions, countdowns. Pure.
