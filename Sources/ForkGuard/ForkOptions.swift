/// How ``ForkGuard/fork(options:_:)`` forks.
public struct ForkOptions: OptionSet, Sendable {
    /// The bits.
    public let rawValue: UInt32

    /// Of ``closeInherited(except:)``.
    private(set) var kept: Set<Int32> = []

    /// Options from their bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    private init(rawValue: UInt32, kept: Set<Int32>) {
        self.rawValue = rawValue
        self.kept = kept
    }

    /// The body runs on the forking thread of the child, which keeps what it holds: so the fork is allowed while this thread holds registered
    /// locks. The Swift runtime's thread id is stale there: the first contended `Synchronization.Mutex` traps.
    public static let onCallingThread = ForkOptions(rawValue: 1)

    /// The child closes every descriptor but 0, 1 and 2, those whose numbers are given here, and those that a ``ForkDescriptor`` stands for, which become what
    /// that says; before its hooks run (close_range(2), Linux 5.9; one by one where there is none).
    public static func closeInherited(except kept: Set<Int32> = []) -> ForkOptions { ForkOptions(rawValue: closes, kept: kept) }

    static let closes: UInt32 = 2

    /// All of them, as with ``formUnion(_:)``.
    public init(arrayLiteral elements: ForkOptions...) {
        rawValue = elements.reduce(0) { $0 | $1.rawValue }
        kept = elements.reduce([]) { $0.union($1.kept) }
    }

    /// Both; what either one keeps is kept.
    public mutating func formUnion(_ other: ForkOptions) {
        self = ForkOptions(rawValue: rawValue | other.rawValue, kept: kept.union(other.kept))
    }

    /// What both have; what both keep is kept.
    public mutating func formIntersection(_ other: ForkOptions) {
        self = ForkOptions(rawValue: rawValue & other.rawValue, kept: kept.intersection(other.kept))
    }

    /// What one of them has; what one of them keeps is kept.
    public mutating func formSymmetricDifference(_ other: ForkOptions) {
        self = ForkOptions(rawValue: rawValue ^ other.rawValue, kept: kept.symmetricDifference(other.kept))
    }
}

extension ForkOptions: CustomStringConvertible {
    /// As one writes them.
    public var description: String {
        var parts: [String] = []
        if contains(.onCallingThread) { parts.append("onCallingThread") }
        if contains(.closeInherited()) { parts.append("closeInherited(except: \(kept.sorted()))") }
        return "[\(parts.joined(separator: ", "))]"
    }
}
