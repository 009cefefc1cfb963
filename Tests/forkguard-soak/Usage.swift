import CForkGuard
import Glibc

/// What the process has at one moment, while nobody forks.
struct Usage {
    var forks: Int
    var residentKilobytes: Int
    var dataKilobytes: Int
    var descriptors: Int
    var threads: Int
    var registrations: Int

    init(forks: Int) {
        self.forks = forks
        // statm: size, resident, shared, text, library, data
        let pages = Self.memory(), kilobytes = sysconf(Int32(_SC_PAGESIZE)) / 1024
        residentKilobytes = pages[1] * kilobytes
        dataKilobytes = pages[5] * kilobytes
        descriptors = Self.entries(of: "/proc/self/fd")
        threads = Self.entries(of: "/proc/self/task")
        registrations = forkguard_registered_count()
    }

    /// What grew by more than its bound since `earlier`. The bounds are for what comes and goes: arenas of malloc, a pool that is not
    /// full, a thread that ends just now.
    func growth(since earlier: Usage) -> [String] {
        let kinds: [(String, KeyPath<Usage, Int>, Int)] = [
            ("resident kilobytes", \.residentKilobytes, 8192), ("data kilobytes", \.dataKilobytes, 16384),
            ("descriptors", \.descriptors, 4),
            ("threads", \.threads, 2), ("registrations", \.registrations, 4),
        ]
        return kinds.compactMap { name, path, bound in
            let (before, now) = (earlier[keyPath: path], self[keyPath: path])
            return now - before > bound ? "\(name): \(before) after \(earlier.forks) forks, \(now) after \(forks)" : nil
        }
    }

    var json: String {
        "{\"forks\":\(forks),\"resident_kilobytes\":\(residentKilobytes),\"data_kilobytes\":\(dataKilobytes),"
            + "\"descriptors\":\(descriptors),\"threads\":\(threads),\"registrations\":\(registrations)}"
    }

    private static func memory() -> [Int] {
        guard let file = fopen("/proc/self/statm", "re") else { fatalError("no /proc") }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, Int32(line.count), file) != nil else { fatalError("no /proc") }
        return line.split(separator: 32).compactMap { Int(String(decoding: $0.map(UInt8.init(bitPattern:)), as: UTF8.self)) }
    }

    private static func entries(of path: String) -> Int {
        guard let directory = opendir(path) else { return 0 }
        defer { closedir(directory) }
        var count = -3  // itself, and the two dots
        while readdir(directory) != nil { count += 1 }
        return count
    }
}
