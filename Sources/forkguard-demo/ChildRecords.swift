#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// What one child tells: how its requests went.
struct ChildRecord {
    /// Set last.
    var hasFinished: Int32 = 0
    var right: Int32 = 0
    var wrong: Int32 = 0
    var foreign: Int32 = 0
}

/// One record per child, on memory that all processes share, so that telling needs neither lock nor pipe.
// @unchecked: a record is written by its one child, and read by the parent after that child has ended. The pointer is a constant.
final class ChildRecords: @unchecked Sendable {
    private let records: UnsafeMutablePointer<ChildRecord>

    /// `nil`: no memory.
    init?(count: Int) {
        let length = count * MemoryLayout<ChildRecord>.stride
        #if canImport(Darwin)
            let flags = MAP_SHARED | MAP_ANON
        #else
            let flags = MAP_SHARED | MAP_ANONYMOUS
        #endif
        guard let memory = mmap(nil, length, PROT_READ | PROT_WRITE, flags, -1, 0), memory != MAP_FAILED else { return nil }
        records = memory.bindMemory(to: ChildRecord.self, capacity: count)
        records.initialize(repeating: ChildRecord(), count: count)
    }

    // Never unmapped: children may outlive the last reference here.

    /// In place, so that what is known when a child is killed is told.
    subscript(index: Int) -> UnsafeMutablePointer<ChildRecord> { records + index }
}
