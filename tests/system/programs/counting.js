// Timers, promises, file callbacks and a worker, each of which appends numbered values to a file.
const fs = require("fs");
const { Worker, isMainThread, workerData } = require("worker_threads");

class Sequence {
  constructor(dir, number) {
    this.fd = fs.openSync(`${dir}/lines-${number}`, "w");
    this.count = 0;
    this.value = 0n;
  }
  next() {
    this.count++;
    this.value = (this.value * 6364136223846793005n + 1442695040888963407n) & ((1n << 64n) - 1n);
    return `${this.count} ${this.value.toString(16).padStart(16, "0")}\n`;
  }
  step() {
    fs.writeSync(this.fd, this.next());
  }
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function chain(lines) {
  for (;;) {
    await sleep(9);
    lines.step();
  }
}

function callbacks(lines) {
  fs.write(lines.fd, lines.next(), () => setTimeout(() => callbacks(lines), 11));
}

if (isMainThread) {
  const dir = process.argv[2];
  const first = new Sequence(dir, 0);
  setInterval(() => first.step(), 7);
  chain(new Sequence(dir, 1));
  callbacks(new Sequence(dir, 2));
  new Worker(__filename, { workerData: dir });
} else {
  const lines = new Sequence(workerData, 3);
  const cell = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    Atomics.wait(cell, 0, 0, 8);
    lines.step();
  }
}
