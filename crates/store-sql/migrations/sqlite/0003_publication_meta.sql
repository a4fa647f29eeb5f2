-- What travels with a publication besides its body: who published it, tags, whether deltas may be sent.
ALTER TABLE publications ADD COLUMN meta BLOB;
