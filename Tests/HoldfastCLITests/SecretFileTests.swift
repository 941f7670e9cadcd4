import Foundation
import Logging
import Program
import Synchronization
import Testing

/// Tokens and passwords in files that others replace.
struct SecretFileTests {
    private let folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-secret-\(UUID())")

    private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func write(_ text: String) throws -> String {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let file = folder.appending(path: "secret")
        try Data(text.utf8).write(to: file)
        return file.path
    }

    @Test func `a password keeps its spaces, a token has none around it, and neither has the line's end`() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let password = try write(" a b \r\n\n")
        #expect(try SecretFile(.password, path: password, option: "--x", log: quiet).current == " a b ")
        let token = try write(" a.b \r\n\n")
        #expect(try SecretFile(.token, path: token, option: "--x", log: quiet).current == "a.b")
    }

    @Test func `it is as the file has it now, and as it was last where that says nothing`() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try write("first")
        let secret = try SecretFile(.token, path: path, option: "--x", log: quiet)
        _ = try write("second\n")
        #expect(secret.current == "second")
        for none in ["\n", "of two\nlines", "\u{e9}", "a\u{7f}"] {
            _ = try write(none)
            #expect(secret.current == "second")
        }
        try FileManager.default.removeItem(atPath: path)
        #expect(secret.current == "second")
    }

    @Test func `a spoilt one is told when that begins, and once it is good again`() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try write("first")
        let written = Written()
        let secret = try SecretFile(
            .token, path: path, option: "--x",
            log: Logger(label: "test") { TextLogHandler(StreamLogHandler(label: $0, stream: written)) })
        for round in 1...2 {
            _ = try write("of two\nlines")
            _ = secret.current
            try FileManager.default.removeItem(atPath: path)
            _ = secret.current
            for _ in 0..<2 {
                _ = try write("second")
                #expect(secret.current == "second")
            }
            let told = written.text.split(separator: "\n").map { $0.contains("kept out") ? "spoilt" : "good" }
            #expect(told == Array(repeating: ["spoilt", "good"], count: round).flatMap(\.self), "\(written.text)")
        }
        #expect(written.text.contains("--x \(path): this is no token") && !written.text.contains("of two"))
    }

    @Test func `what is wrong is said with the option and the file`() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let empty = try write(" \n")
        for (path, why) in [
            (empty, "there is no token in it"), (folder.path + "/missing", "cannot be read: No such file"),
        ] {
            #expect { try SecretFile(.token, path: path, option: "--token-file", log: quiet) } throws: { error in
                "\(error)".contains("--token-file \(path)") && "\(error)".contains(why)
            }
        }
        let wrapped = try write("eyJ.first\nsecond\n")
        #expect { try SecretFile(.token, path: wrapped, option: "--token-file", log: quiet) } throws: { error in
            "\(error)".contains("this is no token") && !"\(error)".contains("eyJ")
        }
    }
}

/// What is written into a log.
private final class Written: TextOutputStream, Sendable {
    private let content = Mutex("")
    var text: String { content.withLock(\.self) }

    func write(_ string: String) { content.withLock { $0 += string } }
}
