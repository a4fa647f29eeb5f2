//! What games print: followed, bounded, searched, masked, matched against patterns.
