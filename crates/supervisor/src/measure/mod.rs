//! What wards cost, from cumulative counters; windows, packed history, our own budget and what we take from games.
