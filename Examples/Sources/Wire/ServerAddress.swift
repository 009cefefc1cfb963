import ForkGuard
import Glibc

/// Where a server listens, resolved.
public struct ServerAddress: Sendable {
    /// The name or address it was made with.
    public let host: String
    /// Its port.
    public let port: UInt16

    let family: Int32
    let storage: sockaddr_storage
    let length: socklen_t

    /// Resolves a name. A thread that vanishes in `getaddrinfo` leaves its locks behind, so forks wait for it.
    public init(host: String, port: UInt16) throws {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var first: UnsafeMutablePointer<addrinfo>?
        let failure = ForkGuard.withForkPrevented({ getaddrinfo(host, String(port), &hints, &first) }, name: "getaddrinfo")
        guard failure == 0, let info = first?.pointee else {
            throw WireError.unknownHost(host, why: String(cString: gai_strerror(failure)))
        }
        defer { freeaddrinfo(first) }
        var storage = sockaddr_storage()
        withUnsafeMutableBytes(of: &storage) {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: info.ai_addr, count: min(Int(info.ai_addrlen), $0.count)))
        }
        self.host = host
        self.port = port
        self.storage = storage
        family = info.ai_family
        length = info.ai_addrlen
    }

    /// The address in digits: for a library that would resolve the name again, without a deadline.
    public var numericHost: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(NI_MAXHOST)) { text in
            withUnsafeBytes(of: storage) {
                let address = $0.baseAddress!.assumingMemoryBound(to: sockaddr.self)
                text[0] = 0
                getnameinfo(address, length, text.baseAddress!, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
            }
            return String(cString: text.baseAddress!)
        }
    }
}
