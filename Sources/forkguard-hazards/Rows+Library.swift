import Foundation

/// The C library, and what stands on it.
extension Rows {
    static let library: [Row] = [
        Row.operation("malloc", "malloc and free of many sizes.") { number in
            var blocks: [UnsafeMutableRawPointer] = []
            for step in 0..<20 {
                let size = 16 << (Int(truncatingIfNeeded: number &+ UInt64(step)) % 14)
                guard let block = malloc(size) else { return false }
                memset(block, Int32(step), size)
                blocks.append(block)
            }
            var isRight = true
            for (step, block) in blocks.enumerated() {
                isRight = isRight && block.load(fromByteOffset: 15, as: UInt8.self) == UInt8(step)
                free(block)
            }
            return isRight
        },
        Row.operation("stdio", "Printing, flushing everything, and a stream of one's own.") { number in
            print("number \(number)")
            fflush(nil)
            var memory = [CChar](repeating: 0, count: 64)
            guard let stream = fmemopen(&memory, memory.count, "w+") else { return false }
            fputs("number \(number)", stream)
            rewind(stream)
            var line = [CChar](repeating: 0, count: 64)
            let isRead = fgets(&line, 64, stream) != nil
            fclose(stream)
            return isRead && String(decoding: line.prefix { $0 != 0 }.map { UInt8($0) }, as: UTF8.self) == "number \(number)"
        },
        Row.operation("getaddrinfo", "Looking up localhost, and a number.") { _ in
            for name in ["localhost", "127.0.0.1"] {
                var hints = addrinfo()
                hints.ai_family = AF_INET
                var found: UnsafeMutablePointer<addrinfo>?
                guard getaddrinfo(name, "80", &hints, &found) == 0, let first = found else { return false }
                defer { freeaddrinfo(first) }
                let address = first.pointee.ai_addr.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { $0.pointee.sin_addr.s_addr }
                if UInt32(bigEndian: address) >> 24 != 127 { return false }
            }
            return true
        },
        Row.operation("setlocale", "setlocale, between the two that are everywhere.") { number in
            // The string may be another thread's by now, and freed: only whether there is one counts.
            setlocale(LC_ALL, number % 2 == 0 ? "C" : "C.UTF-8") != nil && setlocale(LC_CTYPE, nil) != nil
        },
        Row.operation("localtime", "localtime_r, ctime_r and tzset.") { _ in
            tzset()
            var time: time_t = 86_400 * 365
            var parts = tm()
            var text = [CChar](repeating: 0, count: 32)
            guard localtime_r(&time, &parts) != nil, ctime_r(&time, &text) != nil else { return false }
            return (70...71).contains(parts.tm_year) && strlen(text) == 25
        },
        Row.operation("random", "random(), which has a lock around its state.") { _ in
            let numbers = (0..<100).map { _ in random() }
            return Set(numbers).count > 90
        },
        Row("environment", "setenv in the parent's threads; setenv and getenv in the child.") { _ in
            Hazard(
                // Not getenv, which no other thread may call meanwhile.
                hammer: { hammer, number in hammer.inside { Row.expect(setenv("HAZARD_\(number % 16)", "value", 1) == 0, "environment") } },
                check: { index in
                    guard setenv("HAZARD_CHILD", "\(index)", 1) == 0, let value = getenv("HAZARD_CHILD") else { return false }
                    return String(cString: value) == "\(index)"
                })
        },
        Row.operation("dlopen", "dlopen, dlsym and dlclose.") { _ in
            guard let library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL), let symbol = dlsym(library, "cbrt") else { return false }
            let cubeRoot = unsafeBitCast(symbol, to: (@convention(c) (Double) -> Double).self)
            return abs(cubeRoot(27) - 3) < 1e-9 && dlclose(library) == 0
        },
    ]
}
