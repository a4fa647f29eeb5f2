//! What is known of a game, as data: how it starts, is asked, saves, stops, and what its log says.
