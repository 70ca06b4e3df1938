// What a test asks of a page: one call, one answer. Run by the driver as the body of a function.
const [what, argument] = arguments;

// A colour as numbers, laid over another one where it is not opaque.
const numbers = (color) => color.match(/[\d.]+/g).map(Number);
const over = ([r, g, b, a = 1], below) => [r, g, b].map((part, n) => part * a + below[n] * (1 - a));

const luminance = (color) => {
  const [r, g, b] = color.map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

const background = (element) => {
  if (element === null) return [255, 255, 255];
  const own = numbers(getComputedStyle(element).backgroundColor);
  return (own[3] ?? 1) === 1 ? own.slice(0, 3) : over(own, background(element.parentElement));
};

const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim() !== "");

const answers = {
  // How many pixels stand out on the right.
  overflow: () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  dark: () => luminance(background(document.body)) < 0.2,
  // Texts whose contrast is below 4.5, the least that WCAG 2.2 AA allows for small ones.
  pale: () => [...document.body.querySelectorAll("*")].filter((element) => hasText(element) && element.checkVisibility({ visibilityProperty: true }))
    .filter((element) => !element.closest(".unseen, .skip"))
    .map((element) => {
      const below = background(element);
      const [a, b] = [luminance(over(numbers(getComputedStyle(element).color), below)), luminance(below)];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      return { text: element.textContent.slice(0, 40), contrast };
    })
    .filter(({ contrast }) => contrast < 4.5),
  // Controls and cells that say nothing to those who cannot see them.
  nameless: () => [...document.querySelectorAll("a, button, input, th, svg[role=img], meter")].filter((element) => element.checkVisibility())
    .filter((element) => !(element.textContent.trim() || element.getAttribute("aria-label") || element.labels?.length))
    .map((element) => element.outerHTML.slice(0, 80)),
  outline: () => getComputedStyle(document.activeElement).outlineStyle !== "none",
  text: () => document.querySelector(argument).innerText,
  content: () => document.querySelector(argument).textContent,
  contents: () => [...document.querySelectorAll(argument)].map((element) => element.textContent),
  count: () => document.querySelectorAll(argument).length,
  shown: () => document.querySelector(argument).checkVisibility(),
  ran: () => [typeof window.ran, ...performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => name.includes("stolen"))],
};

return answers[what]();
