import ForkGuard
import Glibc
import Wire

/// A pipe by which workers notice that the parent is gone, however it went: only the parent has the end to write to, of which a child finds
/// a tombstone.
struct Lifeline: Sendable {
    private let reading: ForkDescriptor
    private let writing: ForkDescriptor

    init() throws {
        var ends: [Int32] = [-1, -1]
        reading = try ForkDescriptor(.keep, name: "lifeline") {
            if pipe(&ends) != 0 { throw WireError.system("pipe", errno: errno) }
            return ends[0]
        }
        writing = try ForkDescriptor(adopting: ends[1], .tombstone, name: "the parent's end of the lifeline")
    }

    /// Returns when the parent is gone, or the task is cancelled.
    func parentIsGone() async throws {
        let end = try reading.withNumber { readings(of: $0, as: Never.self) { $0.finish() } }
        for await _ in end {}
    }
}
