-- A frozen holder keeps its locks: whoever intervenes is told so instead of waiting without end.
SET LOCAL lock_timeout = '5s'
