/// One packet of the audit library. Which members are there depends on `event`.
struct AuditEvent: Decodable {
    let event: String
    let pid: Int32
    let tid: Int32
    /// CLOCK_MONOTONIC, nanoseconds.
    let time: UInt64

    // process
    let origin: String?
    let fork: String?
    let exe: String?
    let arguments: [String]?

    // prepare
    let via: String?
    let thread: String?
    let signal_handler: Bool?
    let stack: [Address]?
    let threads: [Thread]?
    let descriptors: [Descriptor]?

    // forked
    let child: Int32?
    let errno: Int32?

    // held
    let mutexes: [Mutex]?

    // use
    let side: String?
    let fd: Int32?
    let how: String?

    // waits, got
    let on: String?
    let address: Address?
    let tid_gone: Int32?
    let thread_gone: String?

    // exec, exit, finding
    let path: String?
    let status: Int32?
    let name: String?
    let detail: String?

    struct Thread: Decodable {
        let tid: Int32
        let name: String?
        /// The number of its system call; -1 when it runs.
        let call: Int64
        let pc: Address?
    }

    struct Descriptor: Decodable, Equatable {
        let fd: Int32
        let kind: String
        let type: String?
        let listening: Bool?
        let local: String?
        let peer: String?
        let path: String?
        let offset: UInt64?
        let append: Bool?
        let inode: UInt64?
        let targets: [Int32]?
    }

    struct Mutex: Decodable {
        let address: Address
        let kind: String?
        let tid: Int32?
        let thread: String?
        let stack: [Address]?
    }

    /// A number written as "0x7f..", which JSON's numbers are too small for.
    struct Address: Decodable, Hashable {
        let value: UInt64

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            let text = try container.decode(String.self)
            guard text.hasPrefix("0x"), let value = UInt64(text.dropFirst(2), radix: 16) else {
                throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is not an address")
            }
            self.value = value
        }
    }
}
