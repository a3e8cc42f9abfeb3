// grpc_client.js CASE ADDRESS [ROOTS] - a case of gRPC's interop service with @grpc/grpc-js. Messages are
// written by hand: they have two fields that matter. The packages are where NODE_PATH says.
'use strict';
const fs = require('fs');
const assert = require('assert');
const grpc = require('@grpc/grpc-js');

const SERVICE = '/grpc.testing.TestService/';
const same = (data) => data;

function varint(number) {
    const out = [];
    for (; number > 127; number = Math.floor(number / 128)) out.push((number & 127) | 128);
    return Buffer.from([...out, number]);
}
const field = (number, data) => Buffer.concat([varint((number << 3) | 2), varint(data.length), data]);
const number = (id, value) => Buffer.concat([varint(id << 3), varint(value)]);
const payload = (size) => field(3, field(2, Buffer.alloc(size)));
const wanted = (...sizes) => Buffer.concat(sizes.map((size) => field(2, number(1, size))));

function payloadSize(reply) {
    let at = 1;
    while (reply[at] & 128) at++;
    at++;
    assert.strictEqual(reply[at], (2 << 3) | 2);
    let size = 0;
    for (let shift = 0; ; shift += 7) {
        size += (reply[++at] & 127) * 2 ** shift;
        if (reply[at] < 128) return size;
    }
}

const deadline = (seconds) => ({ deadline: Date.now() + seconds * 1000 });
const [name, address, roots] = process.argv.slice(2);
const client = roots
    ? new grpc.Client(address, grpc.credentials.createSsl(fs.readFileSync(roots)),
        { 'grpc.ssl_target_name_override': 'server.test' })
    : new grpc.Client(address, grpc.credentials.createInsecure());

function unary(method, message, metadata = new grpc.Metadata(), seconds = 20) {
    return new Promise((resolve) => {
        const result = {};
        const call = client.makeUnaryRequest(method, same, same, message, metadata, deadline(seconds),
            (error, reply) => Object.assign(result, { error, reply }));
        call.on('metadata', (initial) => { result.initial = initial; });
        call.on('status', (status) => { result.status = status; setImmediate(() => resolve(result)); });
    });
}

const collect = (call) => new Promise((resolve) => {
    const sizes = [];
    call.on('data', (reply) => sizes.push(payloadSize(reply)));
    call.on('error', () => {});
    call.on('status', (status) => resolve({ sizes, code: status.code }));
});

const cases = {
    async unary() {
        assert.strictEqual((await unary(SERVICE + 'EmptyCall', Buffer.alloc(0))).status.code, 0);
    },
    async large() {
        const message = Buffer.concat([number(2, 314159), payload(271828)]);
        assert.strictEqual(payloadSize((await unary(SERVICE + 'UnaryCall', message)).reply), 314159);
    },
    async server_streaming() {
        const call = client.makeServerStreamRequest(SERVICE + 'StreamingOutputCall', same, same,
            wanted(31415, 9, 2653, 58979), deadline(20));
        assert.deepStrictEqual(await collect(call), { sizes: [31415, 9, 2653, 58979], code: 0 });
    },
    async client_streaming() {
        const reply = await new Promise((resolve, reject) => {
            const call = client.makeClientStreamRequest(SERVICE + 'StreamingInputCall', same, same,
                deadline(20), (error, got) => (error ? reject(error) : resolve(got)));
            for (const size of [27182, 8, 1828, 45904]) call.write(field(1, field(2, Buffer.alloc(size))));
            call.end();
        });
        assert.deepStrictEqual(reply, number(1, 27182 + 8 + 1828 + 45904));
    },
    async ping_pong() {
        const call = client.makeBidiStreamRequest(SERVICE + 'FullDuplexCall', same, same, deadline(20));
        const sizes = [31415, 9, 2653];
        let next = 0;
        const ask = () => (next < sizes.length ? call.write(wanted(sizes[next++])) : call.end());
        call.on('data', ask);
        ask();
        assert.deepStrictEqual(await collect(call), { sizes, code: 0 });
    },
    async status() {
        const text = '\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \u{1F608}\t\n';
        const status = field(7, Buffer.concat([number(1, 2), field(2, Buffer.from(text))]));
        const got = (await unary(SERVICE + 'UnaryCall', status)).status;
        assert.deepStrictEqual([got.code, got.details], [2, text]);
    },
    async metadata() {
        const metadata = new grpc.Metadata();
        metadata.set('x-grpc-test-echo-initial', 'initial');
        metadata.set('x-grpc-test-echo-trailing-bin', Buffer.from([171, 171, 171]));
        const got = await unary(SERVICE + 'UnaryCall', number(2, 1), metadata);
        assert.deepStrictEqual(got.initial.get('x-grpc-test-echo-initial'), ['initial']);
        assert.deepStrictEqual(got.status.metadata.get('x-grpc-test-echo-trailing-bin'),
            [Buffer.from([171, 171, 171])]);
    },
    async deadline() {
        const call = client.makeBidiStreamRequest(SERVICE + 'FullDuplexCall', same, same, deadline(0.5));
        call.write(Buffer.concat([wanted(1), field(2, Buffer.concat([number(1, 1), number(2, 2000000)]))]));
        // the server counts the time too, and its reset may come first: a proxy passes it on, Envoy too,
        // as INTERNAL_ERROR
        const { code } = await collect(call);
        assert([grpc.status.DEADLINE_EXCEEDED, grpc.status.CANCELLED, grpc.status.INTERNAL].includes(code));
    },
    async cancel() {
        const call = client.makeBidiStreamRequest(SERVICE + 'FullDuplexCall', same, same, deadline(20));
        call.on('data', () => call.cancel());
        call.write(wanted(31415));
        assert.strictEqual((await collect(call)).code, grpc.status.CANCELLED);
    },
    async unimplemented() {
        const got = await unary('/grpc.testing.None/Call', Buffer.alloc(0));
        assert.strictEqual(got.status.code, grpc.status.UNIMPLEMENTED);
    },
};

cases[name]().then(() => client.close(), (error) => {
    console.error(error);
    process.exit(1);
});
