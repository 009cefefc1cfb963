import ForkGuard
import Glibc

/// What the pools give out: a pipe, whose ends the process has to give back, and which is no child's.
final class Resource: Sendable {
    let generation = ForkGuard.generation
    private let ends: [Int32]

    init() throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw ForkError.system(call: "pipe", errno: errno) }
        self.ends = ends
    }

    func close() { for end in ends { _ = Glibc.close(end) } }

    /// A byte goes through.
    func works() -> Bool {
        var byte: UInt8 = 42
        guard write(ends[1], &byte, 1) == 1 else { return false }
        byte = 0
        return read(ends[0], &byte, 1) == 1 && byte == 42
    }
}
