//! What is usual for a ward, and what is not: save cycles, baselines, trends, cost per player. Pure.
