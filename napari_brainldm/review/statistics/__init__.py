"""Statistics of reader studies: pure functions of arrays, one question a file."""
