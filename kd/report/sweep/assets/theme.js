// The theme button of the pages of a sweep and of all runs. With this script the page has the class "script".
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("script");

  // --- theme: that of the system until you press the button; some browsers give files no storage ---
  const remembered = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const remember = (name, value) => { try { localStorage.setItem(name, value); } catch { /* not kept */ } };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const updateLabel = () => { toggle.textContent = dark() ? "Light theme" : "Dark theme"; };
  if (["dark", "light"].includes(remembered("kd-theme"))) root.dataset.theme = remembered("kd-theme");
  toggle.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    remember("kd-theme", root.dataset.theme);
    updateLabel();
  });
  system.addEventListener("change", updateLabel);
  updateLabel();
})();
