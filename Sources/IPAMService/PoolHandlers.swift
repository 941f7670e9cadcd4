import CMessages
import IPAMAPI
import IPAMModel
import Ledger
import RPC

/// The service holdfast.ipam.v1.Pools.
extension Writer {
    func poolsService(_ gate: Gate) -> RPCService {
        var service = unsafe RPCService(cmessages_holdfast_ipam_v1_pools())
        unsafe service.unary(
            admit: gate.admit([.agent, .operator]),
            decode: { (message: UnsafePointer<Wire.CreatePoolRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe Pool(message.pointee.pool) }
            },
            encode: { (pool: DescribedPool, arena) in unsafe pool.wire(in: arena) },
            complete: { pool, caller, reply in self.submit(.createPool(pool), by: caller) { reply.complete(pool: $0) } }
        )
        unsafe service.unary(
            admit: gate.admit([.agent, .operator]),
            decode: { (message: UnsafePointer<Wire.UpdatePoolRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in
                    Command.updatePool(
                        try unsafe Pool(message.pointee.pool),
                        for: try unsafe describingNamespace(message.pointee.namespace_))
                }
            },
            encode: { (pool: DescribedPool, arena) in unsafe pool.wire(in: arena) },
            complete: { command, caller, reply in self.submit(command, by: caller) { reply.complete(pool: $0) } }
        )
        unsafe service.unary(
            admit: gate.admit(.any),
            decode: { (message: UnsafePointer<Wire.GetPoolRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe poolName(message.pointee.name) }
            },
            encode: { (pool: DescribedPool, arena) in unsafe pool.wire(in: arena) },
            complete: { name, _, reply in
                reply.complete { () throws(IPAMError) in try self.pool(named: name) }
            })
        unsafe service.unary(
            admit: gate.admit(.any),
            decode: { (_: UnsafePointer<Wire.ListPoolsRequest>) in },
            encode: { (pools: [DescribedPool], arena) in
                let message = unsafe arena.make(Wire.ListPoolsResponse.self)
                unsafe message.pointee.n_pools = pools.count
                unsafe message.pointee.pools = arena.array(pools.count) { unsafe pools[$0].wire(in: arena) }
                return unsafe message
            },
            complete: { _, _, reply in
                reply.complete { () throws(IPAMError) in try self.pools() }
            })
        unsafe service.unary(
            admit: gate.admit(.operator),
            decode: { (message: UnsafePointer<Wire.DeletePoolRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe poolName(message.pointee.name) }
            },
            encode: { (_: Void, arena) in unsafe arena.make(Wire.DeletePoolResponse.self) },
            complete: { name, caller, reply in
                self.submit(.deletePool(name: name), by: caller) { result in
                    switch result {
                    case .success: reply.succeed(())
                    case .failure(let error): reply.fail(error.status)
                    }
                }
            })
        return service
    }
}

extension Reply where Output == DescribedPool {
    fileprivate func complete(pool result: Result<Answer, IPAMError>) {
        switch result {
        case .success(.pool(let pool?)): succeed(pool)
        case .success: fail(RPCStatus(.internalError, "a pool command without a pool"))
        case .failure(let error): fail(error.status)
        }
    }
}

extension Reply {
    /// Answers with what `body` returns, or the status of what it throws.
    func complete(_ body: () throws(IPAMError) -> Output) {
        do throws(IPAMError) {
            succeed(try body())
        } catch {
            fail(error.status)
        }
    }
}
