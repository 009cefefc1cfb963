internal import Glibc

/// The libraries that CMD is started with, built by CMake beside this command.
enum PreloadLibrary: String {
    case guarding = "libforkguard-preload.so"
    case auditing = "libforkguard-audit.so"

    /// Its absolute path: in one of the directories of FORKGUARD_LIBRARY_PATH, beside this executable, or in the lib beside its directory.
    func path(_ environment: Environment) throws -> String {
        let places = Self.places(environment)
        for place in places {
            if let found = realpath("\(place)/\(rawValue)", nil) {
                defer { free(found) }
                return String(cString: found)
            }
        }
        throw Failure(
            """
            there is no \(rawValue) in \(places.joined(separator: ", ")). Build it in ForkGuard's directory with \
            `cmake -B build && cmake --build build`, and set FORKGUARD_LIBRARY_PATH to the directory that it is in.
            """)
    }

    private static func places(_ environment: Environment) -> [String] {
        var places = (environment["FORKGUARD_LIBRARY_PATH"] ?? "").split(separator: ":").map(String.init)
        var path = [CChar](repeating: 0, count: Int(PATH_MAX))
        let length = readlink("/proc/self/exe", &path, path.count)
        if length > 0 {
            let directory = String(decoding: path[..<length].map(UInt8.init(bitPattern:)), as: UTF8.self).split(separator: "/").dropLast()
            places.append("/" + directory.joined(separator: "/"))
            places.append("/" + (directory.dropLast() + ["lib"]).joined(separator: "/"))
        }
        return places
    }
}
