/// Whether a guarded child may be told why it cannot have what it wants, instead of getting it.
enum Refusals {
    case none
    /// Where another thread was in the middle of it.
    case whenBusy
    /// Where the parent has used it.
    case whenUsed

    func allow(_ count: Int, under load: Load) -> Bool {
        switch self {
        case .none: count == 0
        case .whenBusy: count == 0 || load == .hammered
        case .whenUsed: count == 0 || load != .alone
        }
    }
}
