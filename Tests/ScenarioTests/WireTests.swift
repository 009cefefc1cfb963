import ForkGuard
import ForkGuardTesting
import Glibc
import Wire
import XCTest

/// The connection under all clients: what goes wrong on a wire is a typed error.
final class WireTests: XCTestCase {
    func test_aServerThatIsGone() throws {
        let address = try ServerAddress(host: "127.0.0.1", port: try unusedPort())
        XCTAssertThrowsError(try Connection(to: address, timeout: .seconds(5))) {
            XCTAssertEqual($0 as? WireError, .system("connect", errno: ECONNREFUSED))
        }
    }

    private func unusedPort() throws -> UInt16 {
        let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(number) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(number, $0, length)
                getsockname(number, $0, &length)
            }
        }
        return UInt16(bigEndian: address.sin_port)
    }
}
