import CMessages
import IPAMAPI
import IPAMModel
import Ledger
import RPC

/// The service holdfast.ipam.v1.IPAM: decode, hand to the writer or read, encode.
extension Writer {
    func ipamService(_ gate: Gate) -> RPCService {
        var service = unsafe RPCService(cmessages_holdfast_ipam_v1_ipam())
        // Changes answer from the thread that leads the writer once their batch is durable.
        unsafe service.unary(
            admit: gate.admit([.agent, .operator]),
            decode: { (message: UnsafePointer<Wire.AllocateRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe AllocateRequest(message.pointee) }
            },
            encode: { (answer: (DescribedBinding, Bool), arena) in
                let message = unsafe arena.make(Wire.AllocateResponse.self)
                unsafe message.pointee.binding = answer.0.wire(in: arena)
                unsafe message.pointee.created = answer.1 ? 1 : 0
                return unsafe message
            },
            complete: { request, caller, reply in
                self.submit(.allocate(request), by: caller) { result in
                    switch result {
                    case .success(.binding(let binding?, let created)): reply.succeed((binding, created))
                    case .success: reply.fail(RPCStatus(.internalError, "an allocation without a binding"))
                    case .failure(let error): reply.fail(error.status)
                    }
                }
            })
        unsafe service.unary(
            admit: gate.admit([.agent, .operator]),
            decode: { (message: UnsafePointer<Wire.ReleaseRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe ReleaseRequest(message.pointee) }
            },
            encode: { (answer: DescribedBinding?, arena) in
                let message = unsafe arena.make(Wire.ReleaseResponse.self)
                if let answer { unsafe message.pointee.binding = answer.wire(in: arena) }
                return unsafe message
            },
            complete: { request, caller, reply in
                self.submit(.release(request), by: caller) { result in
                    switch result {
                    case .success(.binding(let binding, _)): reply.succeed(binding)
                    case .success: reply.fail(RPCStatus(.internalError, "a release without a binding"))
                    case .failure(let error): reply.fail(error.status)
                    }
                }
            })
        unsafe service.unary(
            admit: gate.admit([.agent, .operator]),
            decode: { (message: UnsafePointer<Wire.TransferRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe TransferRequest(message.pointee) }
            },
            encode: { (answer: DescribedBinding, arena) in
                let message = unsafe arena.make(Wire.TransferResponse.self)
                unsafe message.pointee.binding = answer.wire(in: arena)
                return unsafe message
            },
            complete: { request, caller, reply in
                self.submit(.transfer(request), by: caller) { result in
                    switch result {
                    case .success(.binding(let binding?, _)): reply.succeed(binding)
                    case .success: reply.fail(RPCStatus(.internalError, "a transfer without a binding"))
                    case .failure(let error): reply.fail(error.status)
                    }
                }
            })
        // Reads answer at once from the last committed state.
        unsafe service.unary(
            admit: gate.admit(.any),
            decode: { (message: UnsafePointer<Wire.GetBindingRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe BindingQuery(message.pointee) }
            },
            encode: { (answer: DescribedBinding, arena) in unsafe answer.wire(in: arena) },
            complete: { query, _, reply in
                reply.complete { () throws(IPAMError) in try self.binding(query) }
            })
        unsafe service.unary(
            admit: gate.admit(.any),
            decode: { (message: UnsafePointer<Wire.ListBindingsRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe BindingListing(message.pointee) }
            },
            encode: { (page: BindingPage, arena) in unsafe page.wire(in: arena) },
            complete: { listing, _, reply in
                // Where few of very many bindings match, that takes its time.
                PollingThread.blocking { reply.complete { () throws(IPAMError) in try self.page(listing) } }
            })
        unsafe service.unary(
            admit: gate.admit(.any),
            decode: { (message: UnsafePointer<Wire.ListHistoryRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe HistoryListing(message.pointee) }
            },
            encode: { (page: HistoryPage, arena) in unsafe page.wire(in: arena) },
            complete: { listing, _, reply in
                self.history(listing) { page in reply.complete { () throws(IPAMError) in try page.get() } }
            })
        unsafe service.serverStreaming(
            admit: gate.admit(.any),
            decode: { (message: UnsafePointer<Wire.WatchBindingsRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe BindingFilter(message.pointee) }
            },
            encode: { (event: BindingEvent, arena) in unsafe event.wire(in: arena) },
            handle: { (filter, caller, responses) async throws(RPCStatus) in
                var watch = try status { () throws(IPAMError) in
                    try BindingWatch(filter, by: caller, writer: self) { responses.abort($0.status) }
                }
                try await watch.run(failure: \.status) { event async throws(RPCStatus) in
                    try await responses.send(event)
                }
            })
        return service
    }
}
