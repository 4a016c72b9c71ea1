"""From a trained model to the files that ship: conversion, quantization, release, bundle."""
