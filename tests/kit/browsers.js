/**
 * Drives one browser for a test: one JSON command a line comes in, one answer a line goes out.
 * Arguments: the folder with puppeteer-core, the kind of browser, its executable, a folder for its profile.
 */

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [npm, kind, executablePath, userDataDir] = process.argv.slice(2);
const library = pathToFileURL(`${npm}/node_modules/puppeteer-core/lib/esm/puppeteer/puppeteer-core.js`);
const { default: puppeteer } = await import(library);

const TIMEOUT_MS = 120_000;
const chromium = {
  args: ["--no-sandbox", "--disable-background-networking"],
  // Three of puppeteer's own flags would switch off what a hidden tab has to put up with.
  ignoreDefaultArgs: [
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
  ],
};
const browser = await puppeteer.launch({
  browser: kind === "firefox" ? "firefox" : "chrome",
  executablePath,
  headless: true,
  userDataDir,
  timeout: TIMEOUT_MS,
  protocolTimeout: TIMEOUT_MS,
  ...(kind === "chromium" && chromium),
});

const pages = [];
const commands = {
  async open({ url }) {
    const page = await browser.newPage();
    await page.goto(url);
    return pages.push(page) - 1;
  },
  evaluate: ({ page, text, argument }) => pages[page].evaluate(`(${text})(${JSON.stringify(argument)})`),
  goto: async ({ page, url }) => void (await pages[page].goto(url)),
  async back({ page }) {
    const session = await pages[page].createCDPSession();
    const reasons = [];
    session.on("Page.backForwardCacheNotUsed", (event) => reasons.push(...event.notRestoredExplanations));
    await session.send("Page.enable");
    await pages[page].goBack();
    return reasons.map(({ reason }) => reason);
  },
  async crash({ page }) {
    const session = await pages[page].createCDPSession();
    const crashed = new Promise((resolve) => pages[page].once("error", resolve));
    void session.send("Page.crash").catch(() => {}); // nobody is left to answer
    await crashed;
  },
  front: ({ page }) => pages[page].bringToFront(),
  size: ({ page, width, height }) => pages[page].setViewport({ width, height }),
  press: ({ page, key }) => pages[page].keyboard.press(key),
  close: ({ page }) => pages[page].close(),
  async state({ page, state }) {
    const session = await pages[page].createCDPSession();
    await session.send("Page.setWebLifecycleState", { state });
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: command, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[command](given)) ?? null };
  } catch (error) {
    answer = { failed: String(error.stack) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
