/// The forks that were called from one place.
final class AuditedForkKind {
    let via: String
    let stack: [AuditReport.Frame]
    var forks: [AuditedFork] = []
    var count: Int { forks.count }
    var failed = 0
    var threads: [String] = []
    var inSignalHandler = false
    var threadsReadAt = 0
    var vanished = Tally<Vanished, Void>()
    var held = Tally<Held, String>()
    var lastDescriptors: [AuditEvent.Descriptor] = []
    var descriptors = Tally<Descriptor, AuditEvent.Descriptor>(limit: 256)

    init(via: String, stack: [AuditReport.Frame]) {
        self.via = via
        self.stack = stack
    }

    struct Vanished: Hashable {
        static let unknownCall = Int64.min
        let name: String
        /// -1 when it ran.
        let call: Int64
        let stack: [AuditReport.Frame]
    }

    struct Held: Hashable {
        let kind: String
        let symbol: String?
        /// Only where there is no symbol: the same variable may be elsewhere in another process.
        let address: UInt64?
        let thread: String
        let stack: [AuditReport.Frame]
    }

    /// What makes two descriptors the same to a reader.
    struct Descriptor: Hashable {
        let fd: Int32
        let kind: String
        let local: String?
        let peer: String?
        let path: String?

        init(_ descriptor: AuditEvent.Descriptor) {
            fd = descriptor.fd
            kind = descriptor.kind
            local = descriptor.local
            peer = descriptor.peer
            // Those of pipes and sockets are numbers that never come again.
            path = descriptor.path.flatMap { $0.hasPrefix("/") ? $0 : nil }
        }
    }
}
