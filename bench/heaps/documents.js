// A heap of V8: documents from JSON in a Map, numbers in an array, typed arrays.
// node documents.js --mb 300 --ready FILE [--seed 1] [--seconds 60] [--rate 2000]
const fs = require("fs");
const option = (name, otherwise) => {
  const at = process.argv.indexOf("--" + name);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const mb = +option("mb", 300), seconds = +option("seconds", 60), rate = +option("rate", 2000);
const ready = option("ready");
// A small generator with a seed (mulberry32): the same data in every run.
let state = (+option("seed", 1) * 2654435761) >>> 0;
const random = () => {
  state = (state + 0x6d2b79f5) >>> 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
};
const below = (count) => Math.floor(random() * count);
const words = "home cart search login logout checkout product review rating basket coupon banner footer menu".split(" ");
const word = () => words[below(words.length)];
const document = (number) =>
  JSON.parse(JSON.stringify({
    number, session: below(2 ** 31).toString(36) + below(2 ** 31).toString(36),
    path: `/${word()}/${word()}/${below(9999)}`, at: 1700000000000 + number * 37,
    price: Math.round(random() * 1e5) / 100, good: random() < 0.9, tags: [word(), word()],
    place: { north: random() * 180 - 90, east: random() * 360 - 180 },
    text: Array.from({ length: 3 + below(25) }, word).join(" "),
  }));
const count = Math.floor((mb * 1e6) / 720);
const documents = new Map(), numbers = [];
for (let n = 0; n < count; n++) {
  documents.set("d" + n, document(n));
  numbers.push(n % 3 ? below(1e6) : random());
}
const samples = new Float64Array(1 << 20).map((_, n) => Math.sin(n / 500) * 10 + random() * 0.01);
const bytes = new Uint8Array(4 << 20).map(() => below(256));
for (let n = 0; n < count; n += 9) documents.delete("d" + n);
const step = () => {
  const n = Math.floor(count * random() ** 3), key = "d" + n, kind = random();
  if (kind < 0.6) {
    const one = documents.get(key);
    if (one) { one.price += 1; one.at += 5; }
  } else if (kind < 0.9) documents.set(key, document(n));
  else numbers[n] = random();
};
fs.writeFileSync(ready + ".new", process.pid + "\n");
fs.renameSync(ready + ".new", ready);
const begun = Date.now();
let done = 0;
const timer = setInterval(() => {
  const due = ((Date.now() - begun) / 1000) * rate;
  for (; done < due; done++) step();
  if (Date.now() - begun > seconds * 1000) {
    clearInterval(timer);
    if (samples[7] + bytes[3] + numbers.length < 0) console.log("never");
  }
}, 20);
