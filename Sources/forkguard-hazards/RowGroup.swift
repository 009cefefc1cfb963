/// Whether a row decides about the exit status.
enum RowGroup: String {
    /// A guarded child must neither hang nor crash.
    case now
    /// Shown for now, whatever it is.
    case later
}
