//! Backups of a ward's files: copied while saves are held, at idle priority, verified, kept for a while, restored.
