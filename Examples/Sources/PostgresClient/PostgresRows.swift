/// What a statement gave.
public struct PostgresRows: Sendable, Equatable {
    /// A row for each, a text for each column; `nil` is NULL.
    public var rows: [[String?]] = []
    /// What was done, as the server says: `SELECT 1`, `INSERT 0 3`.
    public var tag = ""

    /// The only value, or the first.
    public var value: String? { rows.first?.first ?? nil }
}
