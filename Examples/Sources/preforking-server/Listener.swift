import ForkGuard
import Glibc
import Wire

/// A socket that listens on a port of 127.0.0.1, any free one for 0, and which. Children go on with it.
func listen(on port: UInt16) throws -> (ForkDescriptor, UInt16) {
    let listener = try ForkDescriptor(.keep, name: "listener") {
        socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    }
    var address = sockaddr_in(), yes: Int32 = 1
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    try listener.withNumber { number in
        setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        setsockopt(number, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))  // what is accepted has it, too
        let listens = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(number, $0, length) == 0 && Glibc.listen(number, 128) == 0 && getsockname(number, $0, &length) == 0
            }
        }
        if !listens { throw WireError.system("listening on port \(port)", errno: errno) }
    }
    return (listener, UInt16(bigEndian: address.sin_port))
}
