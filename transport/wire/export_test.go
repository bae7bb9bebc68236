package wire

// ColumnCount is how many columns a chunk has.
const ColumnCount = columnCount
