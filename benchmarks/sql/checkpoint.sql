-- Every run begins with nothing left to write of the runs before it.
CHECKPOINT
