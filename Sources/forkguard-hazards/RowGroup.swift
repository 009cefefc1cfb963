/// What a row is about.
enum RowGroup: String {
    /// Something that is locked or half done.
    case locked
    /// Work that is handed to threads of somebody else's: Dispatch's, Swift concurrency's, Foundation's.
    case handed
}
