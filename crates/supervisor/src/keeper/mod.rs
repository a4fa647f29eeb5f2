//! The keeper: a small process of ours that holds one game, so that the game outlives Naru and its exit is known.
