#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Where a server listens: an address that needs no resolving any more, as a child must not.
struct ServerAddress: Sendable {
    /// The address in numbers.
    let host: String
    let port: UInt16

    private let storage: sockaddr_storage
    private let length: socklen_t

    struct Unknown: Error {
        let why: String
    }

    /// All addresses of a host. `getaddrinfo` takes locks that no fork repairs: before there are threads only.
    static func all(of host: String, port: UInt16) throws(Unknown) -> [ServerAddress] {
        var hints = addrinfo()
        #if canImport(Glibc)
            hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        #else
            hints.ai_socktype = SOCK_STREAM
        #endif
        hints.ai_flags = AI_NUMERICSERV
        var first: UnsafeMutablePointer<addrinfo>?
        let failure = getaddrinfo(host, String(port), &hints, &first)
        guard failure == 0 else { throw Unknown(why: String(cString: gai_strerror(failure))) }
        defer { freeaddrinfo(first) }
        var addresses: [ServerAddress] = []
        var next = first
        while let info = next {
            addresses.append(ServerAddress(info.pointee, port: port))
            next = info.pointee.ai_next
        }
        return addresses
    }

    private init(_ info: addrinfo, port: UInt16) {
        var storage = sockaddr_storage()
        let length = min(Int(info.ai_addrlen), MemoryLayout<sockaddr_storage>.size)
        withUnsafeMutableBytes(of: &storage) { $0.copyMemory(from: UnsafeRawBufferPointer(start: info.ai_addr, count: length)) }
        self.storage = storage
        self.length = info.ai_addrlen
        self.port = port
        host = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(NI_MAXHOST)) { name in
            name.initialize(repeating: 0)
            getnameinfo(info.ai_addr, info.ai_addrlen, name.baseAddress, socklen_t(name.count), nil, 0, NI_NUMERICHOST)
            return String(cString: name.baseAddress!)
        }
    }

    /// A socket with a time-out for connecting, and for each read and write.
    func makeSocket(timeout: UInt64) throws(RedisError) -> Int32 {
        #if canImport(Glibc)
            let number = socket(Int32(storage.ss_family), Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        #elseif canImport(Musl)
            let number = socket(Int32(storage.ss_family), SOCK_STREAM | SOCK_CLOEXEC, 0)
        #else
            let number = socket(Int32(storage.ss_family), SOCK_STREAM, 0)
            _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        #endif
        guard number >= 0 else { throw .system("socket", errno: errno) }
        var time = timeval()
        time.tv_sec = .init(timeout / MonotonicClock.second)
        time.tv_usec = .init(timeout % MonotonicClock.second / 1000)
        setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(number, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        var yes: Int32 = 1
        setsockopt(number, .init(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
        return number
    }

    func connect(_ number: Int32) throws(RedisError) {
        let result = withUnsafeBytes(of: storage) { bytes in
            #if canImport(Glibc)
                Glibc.connect(number, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), length)
            #elseif canImport(Musl)
                Musl.connect(number, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), length)
            #else
                Darwin.connect(number, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), length)
            #endif
        }
        // What connect(2) says when SO_SNDTIMEO has passed.
        if result != 0 { throw errno == EINPROGRESS ? .timedOut : .system("connect", errno: errno) }
    }
}
