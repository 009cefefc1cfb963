/// Memory for a C lock, at one place for ever.
// @unchecked: the pointer is a constant, and C locks are made to be used by several threads.
struct CMemory<Value>: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<Value>

    /// `initialize` is C's initialiser.
    init(initialize: (UnsafeMutablePointer<Value>) -> Void) {
        pointer = .allocate(capacity: 1)
        initialize(pointer)
    }
}
